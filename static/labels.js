// The lists that ask the server for their entries are no form fields of the browser's, and nobody gives them the name of their label.
(() => {
  "use strict";
  function name(select) {
    const label = document.querySelector(`label[for="${CSS.escape(select.id)}"]`)?.textContent.trim() || select.name;
    select.nextElementSibling?.querySelectorAll(".select2-selection, .select2-selection__rendered").forEach((field) => {
      if (field.getAttribute("aria-label") === label && !field.hasAttribute("aria-labelledby")) return;
      // It names the chosen entry, which may be none, and counts before a label.
      field.removeAttribute("aria-labelledby");
      field.setAttribute("aria-label", label);
    });
  }
  document.addEventListener("DOMContentLoaded", () => {
    const nameAll = () => document.querySelectorAll("select.select2-hidden-accessible").forEach(name);
    // They are made, and made anew, whenever their own scripts like to.
    new MutationObserver(nameAll).observe(document.body, { childList: true, subtree: true });
    nameAll();
  });
})();

// A button copies the text before it; where the browser does not let it (a page without HTTPS), it selects that.
document.addEventListener("click", async (click) => {
  const button = click.target.closest("[data-copy]");
  if (!button) return;
  const source = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = `${button.textContent.replace(" ✓", "")} ✓`;
  } catch {
    getSelection().selectAllChildren(source);
  }
});
