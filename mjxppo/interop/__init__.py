"""The tasks as environments of Gymnasium, for other libraries' trainers."""
