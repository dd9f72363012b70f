"""The official `kaggle` client, run in a child process of ours and answered in JSON."""
