"""What the project's HTML pages share: one shell, one look, no other files."""

from pipeline.pages.page import picture, render_page

__all__ = ["picture", "render_page"]
