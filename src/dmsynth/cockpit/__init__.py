"""The cockpit: a web page on this machine alone, in which a face is steered, trained and put before a DMS.

A door: everything that it does is a call of the library, or a command of ``dmsynth`` run as a job.
"""
