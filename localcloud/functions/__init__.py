"""Run the app's functions as Lambda does, and deliver the events and HTTP requests that invoke them."""
