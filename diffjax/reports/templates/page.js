// Progressive: without script the page still shows every table, plot and picture.
for (const film of document.querySelectorAll(".film")) {
  const slider = film.querySelector("input[type=range]");
  if (!slider) continue;
  const screen = film.querySelector(".screen");
  const caption = film.querySelector("figcaption");
  const label = film.querySelector("output");
  const play = film.querySelector("button");
  const frames = [...film.querySelectorAll(".strip img")];
  let timer = null;
  const show = (n, scroll) => {
    const frame = frames[n];
    slider.value = n;
    screen.src = frame.src;
    label.textContent = "step " + Number(frame.dataset.step).toLocaleString("en");
    caption.textContent = frame.alt;
    frames.forEach((f, i) => f.classList.toggle("on", i === n));
    const strip = frame.parentElement;
    if (scroll) strip.scrollLeft = frame.offsetLeft - strip.offsetLeft - strip.clientWidth / 2;
  };
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "▶ play"; };
  slider.addEventListener("input", () => { stop(); show(+slider.value, true); });
  frames.forEach((f, i) => f.addEventListener("click", () => { stop(); show(i, false); }));
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.textContent = "❚❚ stop";
    let n = 0;
    show(0, true);
    timer = setInterval(() => (++n < frames.length ? show(n, true) : stop()), 450);
  });
  show(frames.length - 1, true);
}

for (const command of document.querySelectorAll(".command")) {
  const button = command.querySelector("button");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.querySelector("code").textContent);
    button.textContent = "copied";
    setTimeout(() => (button.textContent = "copy"), 1200);
  });
}

const search = document.querySelector("#config-search");
if (search) {
  const tree = document.querySelector("#config-tree");
  const nodes = [...tree.querySelectorAll("[data-text]")];
  const open = new Map([...tree.querySelectorAll("details")].map((d) => [d, d.open]));
  search.addEventListener("input", () => {
    const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const hits = nodes.filter((n) => words.length && words.every((w) => n.dataset.text.includes(w)));
    const kept = new Set();
    for (const hit of hits) {
      for (let n = hit; n && n !== tree; n = n.parentElement) kept.add(n);
      hit.querySelectorAll("[data-text]").forEach((n) => kept.add(n));
    }
    nodes.forEach((n) => {
      n.classList.toggle("hit", hits.includes(n) && n.matches(".leaf"));
      n.classList.toggle("away", words.length > 0 && !kept.has(n));
    });
    open.forEach((was, d) => (d.open = words.length ? kept.has(d) : was));
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("th")];
  const value = (row, n) => {
    const text = row.children[n].dataset.value;
    return text !== "" && !isNaN(text) ? Number(text) : text;
  };
  heads.forEach((head, n) => head.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((h) => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    [...body.rows]
      .sort((a, b) => {
        const [x, y] = [value(a, n), value(b, n)];
        return (x > y ? 1 : x < y ? -1 : 0) * (down ? -1 : 1);
      })
      .forEach((row) => body.append(row));
  }));
}
