"""Messages for clients."""

LONGEST = 300


def one_line(message: object) -> str:
    """A message on one line of moderate length, whatever of a client's or a decoder's words it quotes."""
    printable = "".join(sign if sign.isprintable() else " " for sign in str(message)).strip()
    return printable if len(printable) <= LONGEST else f"{printable[: LONGEST - 1]}…"
