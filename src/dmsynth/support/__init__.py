"""The ground floor: files, processes, progress, errors. Nothing here knows what a face is."""
