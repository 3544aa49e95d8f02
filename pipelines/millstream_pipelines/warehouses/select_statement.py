"""A transform's SELECT made safe to put into another statement."""

from __future__ import annotations

from millstream_pipelines.errors import ConfigurationError


def subquery(sql: str) -> str:
    """Return a statement in parentheses, without its closing semicolons and the comments after them.

    A comment in its last line would otherwise swallow what follows. Raises ConfigurationError when it holds no word,
    or more than one statement.
    """
    from sqlglot import Tokenizer, TokenType
    from sqlglot.errors import SqlglotError

    try:
        tokens = Tokenizer().tokenize(sql)
    except SqlglotError as error:
        raise ConfigurationError(f"sql cannot be read: {str(error).splitlines()[0]}") from error
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens or any(token.token_type == TokenType.SEMICOLON for token in tokens):
        raise ConfigurationError("sql must be one SELECT statement")
    return f"({sql[tokens[0].start : tokens[-1].end + 1]})"
