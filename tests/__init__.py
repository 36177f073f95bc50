"""The tests, in folders by the part of the worker that they hold."""
