"""Names of kernels. Kaggle derives the slug from the title; here the title follows the slug."""

from __future__ import annotations

import hashlib
import re

from pipeline.errors import ConfigError

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LENGTHS = range(5, 51)
_DIGEST_CHARACTERS = 8


def kernel_slug(competition: str, conv: str) -> str:
    """The slug of a variant's kernel; its end is a hash where Kaggle takes no slug that long.

    Raises:
        ConfigError: Kaggle would not take it.
    """
    return check_slug(_shortened(f"{competition}-{conv}"))


def compare_slug(competition: str) -> str:
    """The slug of a competition's comparing kernel; as `kernel_slug`.

    Raises:
        ConfigError: Kaggle would not take it.
    """
    return check_slug(_shortened(f"{competition}-compare"))


def _shortened(slug: str) -> str:
    if len(slug) < _LENGTHS.stop:
        return slug
    digest = hashlib.sha256(slug.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{slug[: _LENGTHS[-1] - len(digest) - 1].rstrip('-')}-{digest}"


def title_of(slug: str) -> str:
    """A title that Kaggle turns into exactly `slug`.

    Raises:
        ConfigError: no title does, or it would be too short or too long.
    """
    return check_slug(slug).replace("-", " ").title()


def check_slug(slug: str) -> str:
    """The slug itself.

    Raises:
        ConfigError: Kaggle would not take it.
    """
    if not _SLUG.fullmatch(slug):
        raise ConfigError(
            f"kernel slug {slug!r}: use lower-case letters, digits and single hyphens between them"
        )
    if len(slug) not in _LENGTHS:
        raise ConfigError(
            f"kernel slug {slug!r} has {len(slug)} characters; "
            f"Kaggle takes {_LENGTHS[0]} to {_LENGTHS[-1]}"
        )
    return slug
