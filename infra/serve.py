"""Take the scheduled runs of all deployments and start each in a process of its own: `python -m infra.serve`."""

from prefect import serve

from infra.register import deployments


def main() -> None:
    """Until a signal comes. Schedules stay as they are: the next start goes on with them."""
    serve(*deployments(), pause_on_shutdown=False, print_starting_message=False)


if __name__ == "__main__":
    main()
