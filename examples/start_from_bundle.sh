#!/bin/sh
# Weights to start from: a model of one shop's products, and a new shop that starts from it.
# sh examples/start_from_bundle.sh [FOLDER]
#
# Two shops are made up. They share no products, but the words of their labels. The large one pre-trains
# without IDs, which belong to one shop, and leaves a bundle: parameters, features, a card. The new one
# starts from the bundle. With your own tables, skip step 1, and drop the small sizes and few epochs.
set -eu
mkdir -p "${1:-shops}"
cd "${1:-shops}"

echo "1. Tables of two shops"
python - <<'END'
import csv, random

random.seed(7)
kinds = {
    "garden": ("rake", "hose", "spade", "seeds", "gloves", "trowel", "pot", "shears"),
    "kitchen": ("pan", "ladle", "whisk", "grater", "peeler", "sieve", "kettle", "mug"),
    "office": ("stapler", "pencil", "folder", "ruler", "notebook", "eraser", "lamp", "tape"),
}


def write_shop(name, colors, customers):
    goods = [(f"{color} {label}", kind) for kind, labels in kinds.items() for label in labels for color in colors]
    with open(f"{name}.goods.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["item", "title", "categories"])
        table.writerows([f"{name}{number}", *product] for number, product in enumerate(goods))
    with open(f"{name}.orders.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["user", "item", "timestamp"])
        for customer in range(customers):
            kind = random.choice(list(kinds))  # what this customer mostly buys
            likes = [number for number, product in enumerate(goods) if product[1] == kind]
            basket = random.sample(likes, 7) + random.sample(range(len(goods)), 1)
            for day, number in enumerate(random.sample(basket, len(basket)), 1):
                table.writerow([f"{name}-c{customer}", f"{name}{number}", f"2024-03-{day:02}T12:00:00Z"])


write_shop("Mall", ("red", "blue", "green", "black", "white", "orange"), 300)
write_shop("Shop", ("grey", "brown", "pink"), 40)
END

echo "2. Two data sets, with vectors of the texts in one space"
for name in Mall Shop; do
    recbole-mm prepare --name=$name --interactions=$name.orders.csv --items=$name.goods.csv
done
recbole-mm extract Mall Shop
# With an encoder, every data set has its own command, and new shops can be extracted alone:
# recbole-mm extract Shop --encoder=sentence-transformers/all-MiniLM-L6-v2

cat > small.yaml <<'END'
hidden_size: 32
head_dim: 8
d_state: 8
n_groups: 2
inner_size: 32
train_batch_size: 64
neighbor_scores: True
show_progress: False
END

echo "3. Pre-train on the large shop, and keep a bundle with its model card"
recbole-mm --model=MMM4Rec --dataset=Mall --config_files=small.yaml --train_stage=pretrain \
    --use_item_id=False --epochs=5 --checkpoint_dir=saved/Mall
recbole-mm export saved/Mall/*.pth bundles/Mall
sed -n "/^# MMM4Rec/,/^## How/p" bundles/Mall/README.md

echo "4. The new shop starts from it, in one command"
recbole-mm --model=MMM4Rec --dataset=Shop --config_files=small.yaml --pre_model_path=bundles/Mall --epochs=5

# Does it pay off? With your own shop, compare it with the same model from scratch:
# recbole-mm compare --dataset=Shop --seeds=3 \
#     --models="started=MMM4Rec@small.yaml+pre_model_path=bundles/Mall,scratch=MMM4Rec@small.yaml"
