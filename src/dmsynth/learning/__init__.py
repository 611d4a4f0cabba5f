"""Networks, the swap and the objectives, training, and the file of a trained face."""
