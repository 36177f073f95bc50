"""Measures the worker against local servers: how fast, how much CPU, memory and how many requests. Not shipped."""
