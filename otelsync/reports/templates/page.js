// The page says everything without this: here are only a search, and buttons that fold and unfold.
"use strict";
(() => {
  const tools = document.getElementById("tools");
  const search = document.getElementById("search");
  const failed = document.getElementById("failed");
  const found = document.getElementById("found");
  const items = [...document.querySelectorAll(".waterfall li")];
  const all = [...document.querySelectorAll(".waterfall details")];
  const texts = new Map(items.map((item) => [item, item.querySelector(".row").textContent.toLowerCase()]));

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const filtering = words.length > 0 || failed.checked;
    let count = 0;
    for (const item of items) item.classList.toggle("gone", filtering);
    if (filtering) {
      for (const item of items) {
        const text = texts.get(item);
        if (!words.every((word) => text.includes(word))) continue;
        if (failed.checked && !item.hasAttribute("data-failed")) continue;
        count += 1;
        for (let at = item; at && at.matches("li"); at = at.parentElement.closest("li")) {
          if (at !== item && !at.classList.contains("gone") && at.firstElementChild.open) break;
          at.classList.remove("gone");
          if (at !== item && at.firstElementChild.matches("details")) at.firstElementChild.open = true;
        }
      }
    }
    found.textContent = filtering ? `${count} of ${items.length}` : "";
  };
  const fold = (open) => () => { for (const one of all) one.open = open; };

  search.addEventListener("input", show);
  failed.addEventListener("change", show);
  document.getElementById("unfold").addEventListener("click", fold(true));
  document.getElementById("fold").addEventListener("click", fold(false));
  tools.hidden = false;
})();
