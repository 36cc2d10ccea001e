"""Where observations come from and joint commands go."""
