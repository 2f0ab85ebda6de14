// Asks for the API key, if the server requires one.

import { hasKey, keep } from "./api.js";
import { find } from "./dom.js";

export function listen(entered) {
  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keep(find("key").value);
    find("key").value = "";
    find("key-dialog").close();
    entered();
  });
  // Without a key there is nothing to see, so the dialog stays open.
  find("key-dialog").addEventListener("cancel", (event) => event.preventDefault());
}

export function prompt() {
  const dialog = find("key-dialog");
  if (dialog.open) return;
  if (hasKey()) find("key-trouble").textContent = "The server refused this key.";
  dialog.showModal();
}
