"""What forbids two versions of a key at one time, whoever writes: a trigger per statement, its function, and why.

An exclusion constraint would say it in one line, but its GiST index makes every row some fifteen times as dear, and
over most types of key it needs an extension that not every server has. The trigger looks at what a statement wrote, by
the primary key's own index.

Two transactions that cannot see each other's rows are told apart by a lock: the second looks after the first has
committed. That needs a snapshot taken after the wait, which READ COMMITTED takes for each statement and REPEATABLE READ
does not; SERIALIZABLE finds the conflict by itself.
"""

from __future__ import annotations

FORBID_OVERLAP = "_millstream.forbid_overlap"

HISTORY_GUARD = f"""
CREATE OR REPLACE FUNCTION {FORBID_OVERLAP}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    since text := quote_ident(TG_ARGV[0]);
    until text := quote_ident(TG_ARGV[1]);
    keys text;
    seen text;
BEGIN
    IF current_setting('transaction_isolation') = 'repeatable read' THEN
        RAISE EXCEPTION 'history in % is written in READ COMMITTED or SERIALIZABLE only', TG_RELID::regclass
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM pg_advisory_xact_lock(x'6d696c6c'::int, TG_RELID::bigint::bit(32)::int);
    -- TG_ARGV counts from 0: the key columns are its third to last.
    SELECT string_agg(format('_t.%1$I = _n.%1$I', name), ' AND ') INTO keys FROM unnest(TG_ARGV[2:]) name;
    EXECUTE format(
        'SELECT _n::text FROM changed _n JOIN %1$s _t ON %2$s AND _t.%3$s <> _n.%3$s '
        'WHERE _t.%3$s < coalesce(_n.%4$s, ''infinity'') AND coalesce(_t.%4$s, ''infinity'') > _n.%3$s LIMIT 1',
        TG_RELID::regclass, keys, since, until) INTO seen;
    IF seen IS NOT NULL THEN
        RAISE EXCEPTION 'two versions of a key of % would hold at one time', TG_RELID::regclass
            USING ERRCODE = 'exclusion_violation', DETAIL = left(seen, 300);
    END IF;
    RETURN NULL;
END $$
"""
