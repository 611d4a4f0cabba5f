"""What is learned, and how: networks, the swap, the objectives, training; and the file that a trained face becomes."""
