#!/bin/sh
# From a csv to a report, in about a minute: sh examples/own_data.sh [FOLDER]
#
# Orders of a small shop are made up, prepared, inspected, trained on and compared. With your own tables,
# skip step 1, name your files and columns in step 2, and drop the small sizes and the few epochs.
set -eu
mkdir -p "${1:-shop}"
cd "${1:-shop}"

echo "1. Two tables: who ordered what and when, and what the products are called"
python - <<'END'
import csv, random

random.seed(7)
kinds = {
    "garden": ("rake", "hose", "spade", "seeds", "gloves", "trowel", "pot", "shears"),
    "kitchen": ("pan", "ladle", "whisk", "grater", "peeler", "sieve", "kettle", "mug"),
    "office": ("stapler", "pencil", "folder", "ruler", "notebook", "eraser", "lamp", "tape"),
}
colors = ("red", "blue", "green", "black", "white", "orange", "grey", "brown")
goods = [(f"{color} {name}", kind) for kind, names in kinds.items() for name in names for color in colors]
with open("goods.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["sku", "label", "department"])
    table.writerows([f"sku{number}", *product] for number, product in enumerate(goods))
with open("orders.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["customer", "sku", "ordered_at"])
    for customer in range(300):
        kind = random.choice(list(kinds))  # what this customer mostly buys
        likes = [n for n, product in enumerate(goods) if product[1] == kind]
        basket = random.sample(likes, 7) + random.sample(range(len(goods)), 1)
        for day, number in enumerate(random.sample(basket, len(basket)), 1):
            table.writerow([f"c{customer}", f"sku{number}", f"2024-03-{day:02}T12:00:00Z"])
END

echo "2. A data set from them: dataset/Shop, with vectors of the texts"
recbole-mm prepare --name=Shop --interactions=orders.csv --items=goods.csv \
    --user-column=customer --item-column=sku --time-column=ordered_at \
    --item-text title=label --item-text categories=department

echo "3. What is in it, and what could go wrong"
recbole-mm inspect Shop

echo "4. One model"
recbole-mm --model=MMM4Rec --dataset=Shop --epochs=5 --train_batch_size=64 --show_progress=False \
    --hidden_size=32 --head_dim=8 --d_state=8 --n_groups=2 --inner_size=32

echo "5. Is it better than one without texts? compare/Shop-leave_one_out/report.html"
recbole-mm compare --dataset=Shop --seeds=2 --epochs=5 --train_batch_size=64 \
    --hidden_size=32 --inner_size=32 \
    --models=MMM4Rec+head_dim=8+d_state=8+n_groups=2,SASRec
