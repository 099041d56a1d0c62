"""Run the app's functions as Lambda does, with the events and the HTTP routes that invoke them."""
