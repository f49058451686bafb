// The menu of versions. build.py writes it beside the folders of all versions, so that the pages of an
// older version know the newer ones.
document.addEventListener("DOMContentLoaded", () => {
  const versions = VERSIONS;
  const menu = document.getElementById("version-menu");
  for (const version of versions) {
    menu.add(new Option(version, version, false, version === menu.dataset.version));
  }
  menu.addEventListener("change", () => {
    location.href = `${menu.dataset.versions}${menu.value}/README.html`;
  });
  menu.parentElement.hidden = versions.length < 2;
});
