"""Turn the files of a zip into pixels and what is told of them, without torch: in processes that start early."""
