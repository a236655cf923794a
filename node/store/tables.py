"""The rows of the node's database: how checked values lie in SQLite.

Rows are not values: a table model accepts anything, so rows are made from checked values by the modules
beside this one and turned back there; nothing above `node.store` sees a row. Columns hold `int`, `str`
and `bytes`; enumerations are stored by value; what belongs to a patient is stored sealed or not at all.
"""

from sqlmodel import SQLModel


class Row(SQLModel):
    """Base of all rows; its metadata is what `node.store.database` creates on opening."""
