const list = document.getElementById("pairs"), pairs = [...list.children];
const order = document.getElementById("order"), find = document.getElementById("find");
const count = document.getElementById("count"), all = count.value;

const number = (pair, key) => Number(pair.dataset[key]);
const falling = key => (a, b) => number(b, key) - number(a, key);
const listed = (a, b) => number(a, "place") - number(b, "place");
const orders = {
  confident: falling("confidence"),
  doubtful: (a, b) => falling("confidence")(b, a),
  valid: falling("valid"),
  listed,
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, "en", { numeric: true }),
};

function sort() {
  list.append(...pairs.sort((a, b) => orders[order.value](a, b) || listed(a, b)));
}

function search() {
  const part = find.value.trim().toLowerCase();
  for (const pair of pairs) pair.hidden = !pair.dataset.name.toLowerCase().includes(part);
  const shown = pairs.filter(pair => !pair.hidden).length;
  count.value = part ? `${shown} of ${pairs.length} pairs` : all;
}

order.addEventListener("change", sort);
find.addEventListener("input", search);
sort(); // browsers restore what was chosen
search();
