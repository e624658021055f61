"""The tasks as environments of Gymnasium: many worlds for other trainers, and one in C MuJoCo of a task only ours."""
