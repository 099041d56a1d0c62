/** Show how to use a model from a program: the real address, and a button that copies. */

import { addressOf, part } from "../api.js";
import { copyButton, h, section } from "../dom.js";

function write(name) {
  const address = addressOf(`models/${part(name)}/predict`);
  return {
    curl: `curl -H "Authorization: Bearer $API_TOKEN" -H "Content-Type: image/jpeg" \\
     --data-binary @image.jpg "${address}?top=3"`,
    Python: `import os, urllib.request, json

request = urllib.request.Request(
    "${address}?top=3",
    data=open("image.jpg", "rb").read(),
    headers={"Authorization": f"Bearer {os.environ['API_TOKEN']}", "Content-Type": "image/jpeg"},
)
answer = json.load(urllib.request.urlopen(request))
print(answer["results"][0]["predictions"])`,
    JavaScript: `const response = await fetch("${address}?top=3", {
  method: "POST",
  headers: { Authorization: \`Bearer \${process.env.API_TOKEN}\`, "Content-Type": "image/jpeg" },
  body: await (await import("node:fs/promises")).readFile("image.jpg"),
});
console.log((await response.json()).results[0].predictions);`,
  };
}

export function drawCode({ name }) {
  const texts = write(name);
  const place = h("pre", { tabindex: "0", class: "code", "aria-label": "The code" });
  const choose = (language) => { place.textContent = texts[language]; };
  const names = Object.keys(texts);
  choose(names[0]);
  const choices = names.map((language, index) => h("label", { class: "choice" },
    h("input", { type: "radio", name: "language", value: language, checked: index === 0, onchange: () => choose(language) }), language));
  return section("Use it from code",
    h("p", { class: "hint" }, "The token is the one that you signed in with; a program reads it from ", h("code", {}, "API_TOKEN"), "."),
    h("fieldset", { class: "choices" }, h("legend", { class: "unseen" }, "Language"), choices),
    place, h("div", { class: "actions" }, copyButton(() => place.textContent, "Copy the code")));
}
