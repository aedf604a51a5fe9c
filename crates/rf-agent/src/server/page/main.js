// The first page: which sinks there are.

const root = new URL("..", import.meta.url);
const list = document.createElement("ul");
document.getElementById("main").append(list);
const answer = await fetch(new URL("sink/list", root));
for (const sink of await answer.json()) {
  const item = document.createElement("li");
  item.textContent = `${sink.name} (${sink.type})`;
  list.append(item);
}
