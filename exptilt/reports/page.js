const byId = (id) => document.getElementById(id);
const given = (id) => byId(id)?.value ?? "";
const lists = [...document.querySelectorAll(".list")].map((list) => [list, [...list.children]]);
const number = (prompt) => Number(prompt.dataset[given("measure")] ?? NaN);
const within = (prompt) =>
  (given("from") === "" || number(prompt) >= Number(given("from"))) &&
  (given("to") === "" || number(prompt) <= Number(given("to")));
const fits = (prompt) =>
  prompt.textContent.toLowerCase().includes(given("search").toLowerCase()) &&
  (given("word") === "" || prompt.dataset.word === given("word")) && within(prompt);

function show() {
  let count = 0, all = 0;
  for (const [list, prompts] of lists) {
    const way = Number(given("order"));
    const ordered = way ? prompts.toSorted((a, b) => way * (number(a) - number(b))) : prompts;
    list.replaceChildren(...ordered);
    for (const prompt of prompts) {
      prompt.hidden = !fits(prompt);
      count += !prompt.hidden;
      all += 1;
    }
  }
  byId("found").textContent = `${count} of ${all} shown`;
}

byId("controls").addEventListener("input", show);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
show();
