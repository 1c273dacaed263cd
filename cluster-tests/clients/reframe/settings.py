"""The site as ReFrame sees it."""

site_configuration = {
    "systems": [
        {
            "name": "muster",
            "hostnames": [".*"],
            "partitions": [
                {"name": "main", "scheduler": "slurm", "launcher": "srun", "environs": ["builtin"], "access": ["--partition=main"]},
                {"name": "squeue", "scheduler": "squeue", "launcher": "srun", "environs": ["builtin"], "access": ["--partition=main"]},
            ],
        }
    ],
    "environments": [{"name": "builtin", "cc": "cc", "cxx": "", "ftn": ""}],
    "general": [{"pipeline_timeout": 100}],
}
