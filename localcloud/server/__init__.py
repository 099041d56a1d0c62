"""Assemble the whole local cloud and serve it behind one port."""
