"""Packages for devices: archives of the native engine for several machines, wheels, a .deb, and appliances
that bring a model along. One command, and the same bytes whenever it runs."""
