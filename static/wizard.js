// The plan wizard: hides what does not matter for what is chosen, takes paths from the client's tree, adds rows for commands.
(() => {
  "use strict";
  const form = document.getElementById("wizard");
  if (!form) return;

  function showWhatMatters() {
    for (const field of form.querySelectorAll("[data-when]")) {
      const [name, values] = field.dataset.when.split("=");
      field.hidden = !values.split(",").includes(form.elements[name].value);
    }
  }

  // Asterisks and the like in a name are no pattern.
  const asPattern = (path) => path.replace(/[\\*?[]/g, "\\$&");
  const lines = (name) => form.elements[name].value.split("\n").map((line) => line.trim()).filter(Boolean);
  const line = (button) => (button.dataset.list === "exclude" ? asPattern(button.dataset.path) : button.dataset.path);

  function showChosen() {
    for (const button of form.querySelectorAll(".choice")) {
      button.setAttribute("aria-pressed", String(lines(button.dataset.list).includes(line(button))));
    }
  }

  function choose(button) {
    const name = button.dataset.list;
    const present = lines(name);
    const chosen = line(button);
    const left = present.filter((each) => each !== chosen);
    form.elements[name].value = (left.length < present.length ? left : [...present, chosen]).join("\n");
    showChosen();
  }

  function addCommand(button) {
    const count = form.elements["command-TOTAL_FORMS"];
    const row = document.getElementById("another-command").content.cloneNode(true);
    for (const element of row.querySelectorAll("*")) {
      for (const attribute of element.attributes) attribute.value = attribute.value.replaceAll("__prefix__", count.value);
    }
    const first = row.querySelector("select, input");
    document.getElementById("commands").append(row);
    count.value = Number(count.value) + 1;
    button.hidden = Number(count.value) >= Number(form.elements["command-MAX_NUM_FORMS"].value);
    showWhatMatters();
    first.focus();
  }

  // Whoever goes on in Quartz goes on from what was built.
  function carryOver() {
    const text = form.elements.cron_expression;
    const built = document.querySelector("#fires code")?.textContent;
    if (form.elements.repeat.value === "quartz" && !text.value && built) text.value = built;
  }

  form.elements.repeat.addEventListener("input", carryOver);
  form.addEventListener("input", () => { showWhatMatters(); showChosen(); });
  form.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.matches(".choice")) choose(button);
    if (button?.matches("[data-add-command]")) addCommand(button);
  });
  // Another client has other files.
  form.elements.client.addEventListener("change", () => document.getElementById("tree").replaceChildren());
  document.body.addEventListener("htmx:afterSwap", showChosen);
  form.querySelector("[data-add-command]").hidden = false;
  showWhatMatters();
})();
