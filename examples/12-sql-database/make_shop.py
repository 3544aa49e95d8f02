"""Makes shop.db in the current folder, or adds 100 orders to the one that is there."""

import sqlite3

ORDERS = (
    "CREATE TABLE IF NOT EXISTS orders (id integer PRIMARY KEY, bought_at datetime, pieces integer, price decimal(8,2))"
)

shop = sqlite3.connect("shop.db")
shop.execute(ORDERS)
(known,) = shop.execute("SELECT count(*) FROM orders").fetchone()
for number in range(known + 1, known + 101):
    pieces = "many" if number == 42 else number % 5 + 1
    day = f"2026-01-{number % 28 + 1:02d} 12:00:00"
    shop.execute("INSERT INTO orders VALUES (?, ?, ?, ?)", (number, day, pieces, f"{number / 10:.2f}"))
shop.commit()
shop.close()
print(f"shop.db holds {known + 100} orders")
