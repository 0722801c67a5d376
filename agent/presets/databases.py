"""Databases, dumped as streams: nothing is written on the host, and passwords stay in the programs' own files.

Dumps are not compressed: what is alike in two of them is stored once then, and the engine compresses what it stores.
"""

from typing import Literal

from agent.presets.base import BasePreset, Expansion, StreamStep, option_problem, path_problem


class Postgresql(BasePreset, frozen=True, kw_only=True, tag="postgresql"):
    """PostgreSQL: each of `databases` by pg_dump with roles and tablespaces beside them, all by pg_dumpall, or the cluster's files.

    The user is `user`, else who the agent runs as; a password stands in a file (PGPASSFILE).
    """

    method: Literal["dump", "dumpall", "basebackup"] = "dump"
    databases: list[str] = []
    host: str = ""
    port: int = 0
    user: str = ""
    directory: str = "/dumps/postgresql"

    def expand(self) -> Expansion:
        place = ["--no-password"]
        place += [f"--host={self.host}"] if self.host else []
        place += [f"--port={self.port}"] if self.port else []
        place += [f"--username={self.user}"] if self.user else []
        match self.method:
            case "dump":
                steps = [StreamStep(f"{self.directory}/globals.sql", ("pg_dumpall", "--globals-only", *place))]
                for name in self.databases:
                    command = ("pg_dump", "--format=custom", "--compress=0", *place, f"--dbname={name}")
                    steps.append(StreamStep(f"{self.directory}/{name}.dump", command))
            case "dumpall":
                steps = [StreamStep(f"{self.directory}/all.sql", ("pg_dumpall", *place))]
            case "basebackup":
                command = ("pg_basebackup", "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast", *place)
                steps = [StreamStep(f"{self.directory}/base.tar", command)]
        return Expansion(streams=steps)

    def problem(self) -> str | None:
        if self.method == "dump" and not self.databases:
            return "name the “databases”, or have all dumped with method = \"dumpall\""
        if any("/" in name or "=" in name for name in self.databases):
            return "the names of “databases” must be without / and ="
        return option_problem(databases=self.databases) or path_problem(directory=[self.directory])


class Mysql(BasePreset, frozen=True, kw_only=True, tag="mysql"):
    """MySQL or MariaDB: each of `databases`, or all if none is named, as InnoDB has them at one moment.

    User and password stand in `defaults_file`, an option file. `program`: "mariadb-dump" where there is no mysqldump.
    """

    program: str = "mysqldump"
    databases: list[str] = []
    defaults_file: str = ""
    directory: str = "/dumps/mysql"

    def expand(self) -> Expansion:
        # Which must be the first option.
        first = [f"--defaults-extra-file={self.defaults_file}"] if self.defaults_file else []
        common = (self.program, *first, "--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob")
        if not self.databases:
            return Expansion(streams=[StreamStep(f"{self.directory}/all.sql", (*common, "--all-databases"))])
        steps = [StreamStep(f"{self.directory}/{name}.sql", (*common, "--databases", name)) for name in self.databases]
        return Expansion(streams=steps)

    def problem(self) -> str | None:
        if any("/" in name for name in self.databases):
            return "the names of “databases” must be without /"
        files = [self.defaults_file] if self.defaults_file else []
        problem = option_problem(databases=self.databases, program=[self.program])
        return problem or path_problem(directory=[self.directory], defaults_file=files)


class Redis(BasePreset, frozen=True, kw_only=True, tag="redis"):
    """Redis: its data as an RDB file, which it makes of one moment, as for a replica. A password stands in REDISCLI_AUTH."""

    host: str = "127.0.0.1"
    port: int = 6379
    socket: str = ""
    file: str = "/dumps/redis/dump.rdb"

    def expand(self) -> Expansion:
        place = ("-s", self.socket) if self.socket else ("-h", self.host, "-p", str(self.port))
        return Expansion(streams=[StreamStep(self.file, ("redis-cli", *place, "--rdb", "-"))])

    def problem(self) -> str | None:
        sockets = [self.socket] if self.socket else []
        return option_problem(host=[self.host]) or path_problem(file=[self.file], socket=sockets)
