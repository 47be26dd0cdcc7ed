"""``capplan cache``: where the compiled engine lies."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--clear", is_flag=True, help="Remove it (and those of earlier versions).")
def cache(clear: bool) -> None:
    """Show where the compiled engine is kept; --clear removes it.

    The folder's name is a hash of the engine's source and of the compiler's versions, so a stale
    engine is never used; clearing only frees space.
    """
    import shutil

    from capplan.mm import _jit

    folder = _jit.cache_dir()
    if clear:
        for engine in _engines(folder.parent):
            shutil.rmtree(engine)
            click.echo(f"removed {engine}")
        return
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.exists() else 0
    state = "compiled" if _jit.is_compiled() else "not compiled yet"
    click.echo(f"{folder}: {state}, {size / 1e6:.1f} MB")
    others = [engine for engine in _engines(folder.parent) if engine != folder]
    if others:
        click.echo(f"{len(others)} of other versions beside it (capplan cache --clear)")


def _engines(base: Path) -> list[Path]:
    """Folders in ``base`` that hold a compiled engine: named by a hash."""
    return [
        folder
        for folder in sorted(base.glob("[0-9a-f]" * 16))
        if folder.is_dir() and any(folder.glob("*.o"))
    ]
