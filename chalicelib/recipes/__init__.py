"""Read a recipe, check it against the schema and the rules, and fill in the defaults."""
