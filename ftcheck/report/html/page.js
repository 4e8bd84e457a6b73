(() => {
  "use strict";
  const root = document.documentElement;
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  const say = (text) => { document.getElementById("said").textContent = text; };
  root.classList.add("scripted");

  // theme: the system's until the switch is used; remembered where the browser allows it
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("ftcheck-theme"); } catch { return null; } };
  const paint = (name) => {
    root.dataset.theme = name;
    theme.setAttribute("aria-pressed", String(name === "dark"));
  };
  paint(stored() || (system.matches ? "dark" : "light"));
  system.addEventListener("change", () => { if (!stored()) paint(system.matches ? "dark" : "light"); });
  theme.addEventListener("click", () => {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    paint(next);
    try { localStorage.setItem("ftcheck-theme", next); } catch { /* a file in a sandbox stores nothing */ }
  });

  // copying
  const oldCopy = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    let done = true;
    try { await navigator.clipboard.writeText(button.dataset.copy); } catch { done = oldCopy(button.dataset.copy); }
    button.focus();
    button.textContent = done ? "Copied" : "Not copied";
    say(button.textContent);
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });

  // how long ago
  const days = (since) => Math.floor((Date.now() - Date.parse(since)) / 86400000);
  for (const time of all("time.age")) {
    const count = days(time.dateTime);
    if (count >= 1) time.insertAdjacentText("afterend", ` (${count} ${count === 1 ? "day" : "days"} ago)`);
  }

  // filters of the checks
  const form = document.getElementById("filters");
  if (form) {
    const [q, job, rule] = ["q", "job", "rule"].map((id) => document.getElementById(id));
    const pills = all("button[data-outcome]", form);
    const checks = all("details.check");
    const texts = new Map();
    const text = (check) => {
      if (!texts.has(check)) texts.set(check, `${check.dataset.job} ${check.dataset.rule} ${check.textContent}`.toLowerCase());
      return texts.get(check);
    };
    const apply = () => {
      const words = q.value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = pills.filter((one) => one.getAttribute("aria-pressed") === "true").map((one) => one.dataset.outcome);
      let shown = 0;
      for (const check of checks) {
        const { outcome, job: its, rule: by } = check.dataset;
        const fits = (!wanted.length || wanted.includes(outcome)) && (!job.value || its === job.value)
          && (!rule.value || by === rule.value) && words.every((word) => text(check).includes(word));
        check.hidden = !fits;
        shown += fits;
      }
      for (const group of all(".group")) group.hidden = !all("details.check:not([hidden])", group).length;
      document.getElementById("none").hidden = shown > 0;
      document.getElementById("shown").textContent = `${shown} of ${checks.length} checks shown`;
    };
    const press = (pill, on) => pill.setAttribute("aria-pressed", String(on));
    for (const pill of pills) pill.addEventListener("click", () => {
      press(pill, pill.getAttribute("aria-pressed") !== "true");
      apply();
    });
    for (const kind of ["input", "change"]) form.addEventListener(kind, apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => { pills.forEach((one) => press(one, false)); apply(); }));
    const open = document.getElementById("open");
    open.addEventListener("click", () => {
      const some = checks.some((one) => !one.hidden && !one.open);
      for (const check of checks) if (!check.hidden) check.open = some;
      open.textContent = some ? "Close all" : "Open all";
    });
    for (const link of all("a[data-outcome]")) link.addEventListener("click", () => {
      for (const pill of pills) press(pill, pill.dataset.outcome === link.dataset.outcome);
      apply();
    });
    apply();
  }

  // paper shows what is folded
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
})();
