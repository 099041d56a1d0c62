"""Put the whole local cloud behind one port."""
