"""Image competitions on Kaggle, from the first download to a leaderboard score."""
