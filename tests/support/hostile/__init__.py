"""Images and zips that were made to break whatever reads them."""
