"""Benchmarks, reliability tests and the doctor.

``mjxppo benchmark physics|train|scale|compile|return|gymnasium`` runs the module of that name (return:
``time_to_return``), ``make kill`` and ``make soak`` theirs.
"""
