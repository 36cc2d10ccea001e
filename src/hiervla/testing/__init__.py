"""What projects that stand on hiervla can use in their own tests."""
