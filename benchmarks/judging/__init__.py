"""How often the judgements are right that a training makes of itself: its rules, and labels that look wrong."""
