"""What is made of runs: curves, reports, studies, and a view of one that goes on."""
