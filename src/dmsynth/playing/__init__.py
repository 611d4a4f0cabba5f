"""Videos in real time: to a screen, a virtual camera, a stream or a pipe, with a mark in a corner and a log."""
