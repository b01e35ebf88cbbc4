"""The git commit that a training was started from."""

from __future__ import annotations

import subprocess

_SECONDS = 10.0


def git_commit() -> str:
    """Return the commit of the folder one is in, with "+changes" where its files differ; empty without git or a repository."""
    commit = _git("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
