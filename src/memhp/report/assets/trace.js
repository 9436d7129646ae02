(() => {
  const { steps, states, schedule } = JSON.parse(document.getElementById("trace").textContent);
  const $ = id => document.getElementById(id);
  const HUES = 6;
  let at = 0, columns = true;

  const make = (tag, classes, ...inside) => {
    const node = document.createElement(tag);
    if (classes) node.className = classes;
    node.append(...inside.filter(part => part !== "" && part != null));
    return node;
  };
  const holding = (root, step) => [...root.querySelectorAll("[data-step]")].filter(
    node => +node.dataset.step <= step && step <= +node.dataset.last);

  function value(label, pair) {
    const words = pair[1] ? make("small", "", pair[1]) : "";
    return make("div", "", make("span", "", label), make("code", "", pair[0]), words);
  }
  function change([kind, what, old, now]) {
    const to = make("span", "to");
    if (old) to.append(old, " → ");
    to.append(make("i", "", now));
    return make("div", "change " + kind, make("b", "", kind), make("div", "", what, to));
  }
  function section(title, nodes) {
    return nodes.length ? [make("h3", "", title), ...nodes] : [];
  }
  function show() {
    const step = steps[at], state = states[step.state], panel = $("detail");
    const who = make("span", "who cpu" + step.thread % HUES, step.name + " on CPU " + step.thread);
    const does = make("span", "does large", make("em", step.kind, step.kind), " ", make("code", "", step.what),
      step.result ? make("span", "values", step.result) : "");
    const values = make("div", "values2");
    if (step.old) values.append(value(step.new ? "was" : "seen", step.old));
    if (step.new) values.append(value("now", step.new));
    const standing = [
      ["lock", state.locks], ["stale", state.stale], ["exposed", state.exposed], ["ended", state.ended]];
    panel.replaceChildren(
      make("h2", "", "Step " + (at + 1) + " · ", who), make("span", "place", step.place), does,
      step.about && step.about !== "alone" ? make("p", "soft", step.about) : "", values.childNodes.length ? values : "",
      ...section("What it changed", step.changes.filter(one => !(one[0] === "entry" && step.old)).map(change)),
      ...section("What stands after it", standing.flatMap(
        ([kind, rows]) => rows.map(([what, how]) => change([kind, what, "", how])))));
    panel.scrollTop = 0;
    $("at").textContent = at + 1;
  }
  function mark() {
    for (const node of document.querySelectorAll(".picked")) {
      node.classList.remove("picked");
      node.setAttribute("aria-selected", "false");
      node.tabIndex = -1;
    }
    const rows = holding($("columns"), at + 1), row = rows[rows.length - 1];
    const event = holding($("sequence"), at + 1)[0];
    for (const node of [row, event].filter(Boolean)) {
      node.classList.add("picked");
      node.setAttribute("aria-selected", "true");
      node.tabIndex = 0;
    }
    const block = holding(document.querySelector(".strip"), at + 1)[0];
    if (block) {
      const first = +block.dataset.step, count = +block.dataset.last - first + 1;
      const x = +block.getAttribute("x") + block.getAttribute("width") * (at + 1 - first + .5) / count;
      $("now").style.left = x / 10 + "%";
    }
    return columns ? row : event;
  }
  function go(step, scroll = true) {
    const focused = document.activeElement && document.activeElement.closest("#columns, #sequence");
    at = Math.max(0, Math.min(steps.length - 1, step));
    const node = mark();
    show();
    if (focused && node) node.focus({ preventScroll: true });
    if (scroll && node) node.scrollIntoView({ block: "nearest", inline: "nearest" });
    history.replaceState(null, "", "#step=" + (at + 1));
  }
  function move(by) {
    const rows = holding($("columns"), at + 1), row = rows[rows.length - 1];
    const span = columns ? row : holding($("sequence"), at + 1)[0];
    const folded = span && span.dataset.last !== span.dataset.step &&
      !(columns && span.getAttribute("aria-expanded") === "true");
    if (!folded) return go(at + by);
    go(by > 0 ? +span.dataset.last : +span.dataset.step - 2);
  }
  function turn(by) {
    let step = at;
    do { step += by; } while (steps[step] && steps[step - 1] && steps[step].thread === steps[step - 1].thread);
    if (steps[step]) go(step);
  }
  const expanded = row => row.getAttribute("aria-expanded") === "true";
  function unfold(row) {
    if (!row.querySelector(".fold")) return;
    const open = expanded(row);
    row.setAttribute("aria-expanded", String(!open));
    if (open) {
      if (document.activeElement.closest("#columns .inner")) row.focus({ preventScroll: true });
      let inner = row.nextElementSibling;
      while (inner && inner.classList.contains("inner")) {
        inner.remove();
        inner = row.nextElementSibling;
      }
    } else {
      const inner = [];
      for (let step = +row.dataset.step; step <= +row.dataset.last; step++) {
        const one = steps[step - 1], raw = [one.old, one.new].filter(Boolean).map(pair => pair[0]).join(" → ");
        const cell = make("div", "cell", make("span", "does", make("em", one.kind, one.kind), " ",
          make("code", "", one.what), make("span", "values", one.result || raw)));
        cell.style.setProperty("--at", row.querySelector(".cell").style.getPropertyValue("--at"));
        const number = make("span", "n", String(step));
        const line = make("div", "row inner cpu" + one.thread % HUES, number, cell);
        for (const [node, role] of [[line, "row"], [number, "rowheader"], [cell, "gridcell"]])
          node.setAttribute("role", role);
        line.setAttribute("aria-level", "2");
        line.setAttribute("aria-selected", "false");
        line.tabIndex = -1;
        line.dataset.step = line.dataset.last = step;
        inner.push(line);
      }
      row.after(...inner);
    }
    go(at);
  }
  function view(first) {
    columns = first;
    $("columns").hidden = !first;
    $("sequence").hidden = first;
    for (const [tab, shown] of [[$("tab-columns"), first], [$("tab-sequence"), !first]]) {
      tab.setAttribute("aria-selected", String(shown));
      tab.tabIndex = shown ? 0 : -1;
    }
    go(at);
  }
  function copy(text, button) {
    const done = () => {
      if (!button) return;
      const label = button.dataset.label || (button.dataset.label = button.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1200);
    };
    const by_hand = () => {
      const area = document.body.appendChild(make("textarea"));
      area.value = text;
      area.select();
      document.execCommand("copy");
      area.remove();
      done();
    };
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, by_hand); else by_hand();
  }

  const KEYS = {
    ArrowDown: () => move(1), j: () => move(1), ArrowUp: () => move(-1), k: () => move(-1),
    n: () => turn(1), p: () => turn(-1), Home: () => go(0), End: () => go(steps.length - 1),
    f: () => { const row = holding($("columns"), at + 1)[0]; if (row) unfold(row); }, v: () => view(!columns),
    c: () => copy(schedule, document.querySelector(".schedule button")),
  };
  const open_or_close = wanted => () => {
    const row = document.activeElement.closest("#columns .row");
    if (row && row.querySelector(".fold") && expanded(row) !== wanted) return unfold(row);
    const above = row && !wanted && row.classList.contains("inner") && holding($("columns"), at + 1)[0];
    if (above) { unfold(above); go(+above.dataset.step - 1); }
  };
  const IN_ROWS = { ArrowRight: open_or_close(true), ArrowLeft: open_or_close(false), Enter: KEYS.f, " ": KEYS.f };
  const IN_TABS = {};
  for (const key of ["ArrowRight", "ArrowLeft"])
    IN_TABS[key] = () => { view(!columns); $(columns ? "tab-columns" : "tab-sequence").focus(); };
  document.addEventListener("keydown", event => {
    const target = event.target.closest ? event.target : document.body;
    const local = target.closest("#columns .row") && !target.closest("button") ? IN_ROWS :
      target.closest("[role=tablist]") ? IN_TABS : {};
    const act = local[event.key] || KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "TEXTAREA") return;
    event.preventDefault();
    act();
  });
  document.addEventListener("click", event => {
    const target = event.target;
    const button = target.closest("button");
    if (button && button.dataset.copy !== undefined) return copy(button.dataset.copy, button);
    if (button && button.classList.contains("fold")) return unfold(button.closest(".row"));
    const node = target.closest("[data-step]");
    if (target.closest("aside h2")) $("detail").classList.toggle("small");
    if (node) go(+node.dataset.step - 1, node.closest(".strip") !== null);
  });
  $("columns").addEventListener("dblclick", event => {
    const row = event.target.closest(".row");
    if (row && !event.target.closest("button")) unfold(row);
  });
  $("first").onclick = KEYS.Home; $("last").onclick = KEYS.End;
  $("next").onclick = () => move(1); $("back").onclick = () => move(-1);
  $("tab-columns").onclick = () => view(true); $("tab-sequence").onclick = () => view(false);
  const wanted = /^#step=(\d+)$/.exec(location.hash);
  go(wanted ? wanted[1] - 1 : 0, Boolean(wanted));
})();
