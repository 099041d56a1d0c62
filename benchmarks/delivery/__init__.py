"""How long a developer or an operator waits: the tests, a package, and the life of a stage."""
