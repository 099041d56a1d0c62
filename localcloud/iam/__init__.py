"""Who calls, and what a role's policies allow."""
