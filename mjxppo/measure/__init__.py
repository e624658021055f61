"""Benchmarks, a module for each kind of ``mjxppo benchmark`` (return: ``time_to_return``), and the doctor."""
