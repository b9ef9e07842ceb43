"""What went by, for those who asked: flow logs."""
