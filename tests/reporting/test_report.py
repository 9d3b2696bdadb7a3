"""The report: one page, opened in a real browser, with no runs, some and very many."""

import json
import os
import re
import shutil
import time

import numpy as np
import pytest
import yaml
from made_runs import PAPER, change, make_run, results_of, run_of
from matplotlib.image import imread
from selenium.webdriver.common.keys import Keys

from puzzlemix.reporting import figures
from puzzlemix.reporting.page import report_page
from puzzlemix.reporting.runs import find_runs, rows_of
from puzzlemix.training.log import STATISTICS
from puzzlemix.training.settings import fingerprint

DRIVER = shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(DRIVER is None, reason="needs Debian's packages chromium and chromium-driver")


def write_report(folder, runs):
    page = folder / "report.html"
    page.write_text(report_page(results_of(runs), runs, commit=None))
    return page


@pytest.fixture
def page(runs, hydra_configs, tmp_path):
    """A page of two tables, with a run that was damaged."""
    for seed, error in enumerate((19.58, 19.62)):
        make_run(runs, "cifar100_preactresnet18_puzzlemix", seed, error)
    for seed in (0, 1):
        make_run(runs, "cifar100_preactresnet18_vanilla", seed, 21.0)
        change(
            run_of(runs, "vanilla", seed) / "metrics.json", top1_error=dict.fromkeys(("median10", "last", "best"), 9.5)
        )
    (run_of(runs, seed=1) / "metrics.json").write_text("{")
    return write_report(tmp_path, runs)


@pytest.fixture
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1600"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


def column(browser, title):
    """The texts of the visible table's column, in the order shown."""
    return browser.execute_script(
        "const table = document.querySelector('section:not([hidden]) table');"
        "const i = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent === arguments[0]);"
        "return [...table.tBodies[0].rows].map(row => row.cells[i].textContent)",
        title,
    )


def click(browser, selector, text):
    from selenium.webdriver.common.by import By

    (element,) = [e for e in browser.find_elements(By.CSS_SELECTOR, selector) if e.text.rstrip(" ▲▼") == text]
    element.click()


@needs_chromium
def test_a_browser_shows_sorts_and_switches_without_a_request(page, browser, tmp_path):
    browser.get(page.as_uri())
    assert column(browser, "top-1")[:2] == ["21.14", "18.27"]  # of the paper's Table 2
    click(browser, "nav button", "made")
    ours = [f"cifar100_preactresnet18_{method}" for method in ("puzzlemix", "vanilla")]
    assert column(browser, "run") == ours
    errors = column(browser, "top-1 error %")
    click(browser, "section:not([hidden]) table:first-of-type th button", "top-1 error %")
    assert column(browser, "top-1 error %") == sorted(errors, key=lambda text: float(text.split()[0]))
    click(browser, "section:not([hidden]) table:first-of-type th button", "top-1 error %")
    assert column(browser, "top-1 error %") == sorted(errors, key=lambda text: -float(text.split()[0]))
    assert column(browser, "run") == ours[::-1]

    click(browser, "nav button", "digits_preactresnet18_narrow")
    assert column(browser, "run") == ["puzzlemix", "vanilla"]
    (tab,) = browser.find_elements("css selector", "nav button[aria-selected=true]")
    tab.send_keys(Keys.ARROW_RIGHT)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)  # from the last to the first
    assert column(browser, "top-1")[:2] == ["21.14", "18.27"]
    browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert column(browser, "run") == ours[::-1]
    assert "metrics.json is damaged: delete it" in browser.find_element("css selector", ".problems").text
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    assert all(url.startswith(("file://", "data:")) for url in asked)

    browser.save_screenshot(str(tmp_path / "report.png"))
    shown = imread(tmp_path / "report.png")
    assert np.ptp(shown[..., :3]) > 0.8  # from its page to its text


@needs_chromium
def test_it_is_dark_narrow_and_printed_where_it_has_to_be(page, browser):
    def media(**emulated):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)

    def brightness():
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.strip("rgb()").split(",")) / 3

    browser.get(page.as_uri())
    media(features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert brightness() < 60
    media(features=[{"name": "prefers-color-scheme", "value": "light"}])
    assert brightness() > 200
    hidden = "return [...document.querySelectorAll('section')].map(s => getComputedStyle(s).display)"
    assert browser.execute_script(hidden) == ["block", "none", "none"]
    media(media="print")
    assert browser.execute_script(hidden) == ["block", "block", "block"]
    media(media="")
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths == [390, 390]  # tables scroll inside the page


def test_the_page_says_what_the_runs_say(page):
    text = page.read_text()
    assert '<td class="number reproduced">-0.02 =</td>' in text
    assert ">19.60±0.03<" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert text.count("data:image/png;base64,") == 4  # of two methods in each of two tables


def test_without_runs_it_shows_what_there_is_to_reproduce(hydra_configs, tmp_path):
    text = write_report(tmp_path, tmp_path / "nowhere").read_text()
    assert "nowhere is not there: give results_dir=" in text
    assert "There are no runs yet" in text
    assert ">19.62<" in text


def test_one_unfinished_run_is_enough(runs, hydra_configs, tmp_path):
    shutil.copytree(run_of(runs), tmp_path / "one" / "run" / "seed0")
    (tmp_path / "one" / "run" / "seed0" / "metrics.json").unlink()
    text = write_report(tmp_path, tmp_path / "one").read_text()
    assert "unfinished, 2 of 2 epochs" in text
    assert "<svg" in text  # its curves


def test_500_runs_take_seconds_and_megabytes(runs, hydra_configs, tmp_path):
    sources = [run_of(runs, method) for method in ("vanilla", "puzzlemix")]
    record = json.loads((sources[0] / "log.jsonl").read_text().splitlines()[0])
    log = (json.dumps(record | {"top1_error": 50.0, "top5_error": 50.0}) + "\n") * 200
    texts = [[(source / name).read_text() for name in ("config.yaml", "metrics.json")] for source in sources]
    for i in range(500):
        config, metrics = texts[i % 2]
        setting, seed, table = i // 10, i // 2 % 5, i % 7 // 4
        folder = tmp_path / "many" / f"run{setting}_{i % 2}" / f"seed{seed}"
        folder.mkdir(parents=True)
        config = yaml.load(config, yaml.CSafeLoader) | {
            "name": folder.parent.name,
            "seed": seed,
            "table": f"table{table}",
        }
        config["recipe"]["lr"] = 0.01 * (setting + 1)
        config["recipe"]["epochs"] = 200
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        own = {"name": config["name"], "seed": seed, "config_hash": fingerprint(config), "weights": f"of run {i}"}
        own |= {"epochs": 200, **{key: dict.fromkeys(STATISTICS, 50.0) for key in ("top1_error", "top5_error")}}
        (folder / "metrics.json").write_text(json.dumps(json.loads(metrics) | own))
        (folder / "log.jsonl").write_text(log)
        shutil.copy(sources[i % 2] / "mixed.png", folder)
    start_s = time.process_time()  # other processes may be at work
    page = write_report(tmp_path, tmp_path / "many")
    seconds = time.process_time() - start_s
    assert "500 runs in" in page.read_text()
    assert seconds < 10
    assert page.stat().st_size < 20e6


def test_no_name_keeps_the_page_from_being_written(runs, hydra_configs, tmp_path):
    for seed in (0, 1):
        change(run_of(runs, seed=seed) / "config.yaml", name=r"a$\foo$b <img src=x onerror=alert(1)> [ca4e01e0] x[/b]y")
    run_of(runs, "vanilla").parent.rename(runs / os.fsdecode(b"caf\xe9"))  # no UTF-8
    text = write_report(tmp_path, runs).read_text()
    assert "<img src=x" not in text
    assert len(re.findall(r' id="', text)) == len(set(re.findall(r' id="[^"]*"', text)))


def test_the_figure_of_mixing_statistics_is_on_the_page(runs, hydra_configs, tmp_path):
    assert "What mixing does to images" not in write_report(tmp_path, runs).read_text()
    picture = run_of(runs, "vanilla") / "mixing_statistics.png"
    picture.write_bytes((run_of(runs, "vanilla") / "mixed.png").read_bytes())
    text = write_report(tmp_path, runs).read_text()
    assert "What mixing does to images" in text
    assert "Measured with the network of digits_preactresnet18_narrow_vanilla, seed 0; dashed: the paper" in text


def test_the_rows_that_are_drawn_are_those_of_least_error(runs, hydra_configs):
    """Whatever share of a row's runs is finished."""
    for i in range(len(figures.COLOURS) + 1):
        for seed in range(2 + 4 * (i == 0)):
            folder = shutil.copytree(run_of(runs), runs / f"row{i}" / f"seed{seed}")
            change(folder / "config.yaml", name=f"row{i}", seed=seed)
            change(folder / "metrics.json", top1_error=dict.fromkeys(STATISTICS, 40.0 if i == 0 else 30.0 + i / 10))
            if i == 0 and seed > 0:
                (folder / "metrics.json").unlink()
    (table,) = results_of(runs).own
    drawn = table.rows_to_draw(len(figures.COLOURS))
    assert len(drawn) == len(figures.COLOURS)
    assert "row0" not in drawn


def test_methods_are_drawn_in_the_papers_order_and_their_variants_last(runs, hydra_configs):
    for method, name in (("cutmix", "cutmix"), ("input", "input"), ("puzzlemix", "puzzlemix_gamma_0.0")):
        folder = shutil.copytree(run_of(runs), runs / f"digits_preactresnet18_narrow_{name}" / "seed0")
        config = yaml.safe_load((folder / "config.yaml").read_text())
        change(folder / "config.yaml", name=folder.parent.name, choices={**config["choices"], "mixup": method})
    (table,) = results_of(runs).own
    assert list(table.rows_to_draw(5)) == ["vanilla", "input", "cutmix", "puzzlemix", "puzzlemix_gamma_0.0"]


def test_curves_are_of_finished_runs_where_there_are_any(runs):
    log = run_of(runs, seed=1) / "log.jsonl"
    (run_of(runs, seed=1) / "metrics.json").unlink()
    log.write_text(log.read_text().splitlines()[0] + "\n")
    (curve, _) = figures.curves_of({row.label: row for row in rows_of(find_runs(runs).runs)}, "top1_error")
    assert curve.values.shape == (1, 2)
    (run_of(runs) / "metrics.json").unlink()
    (curve, _) = figures.curves_of({row.label: row for row in rows_of(find_runs(runs).runs)}, "top1_error")
    assert curve.values.shape == (2, 1)  # as far as both have come


def test_the_first_epochs_may_leave_the_axis():
    values = np.array([[95.0, 60.0, *np.linspace(40, 20, 18)]])
    drawn = figures.draw_curves([figures.Curve("a", figures.COLOURS[0], np.arange(1, 21), values)], "error")
    labels = {label for label in re.findall(r"<text[^>]*>([^<]*)</text>", drawn) if label[:1].isdigit()}
    assert {"20", "40"} <= {label.removesuffix(".0") for label in labels}
    assert max(map(float, labels)) <= 40


def test_the_script_writes_the_page_and_an_unwritable_one_is_one_line(runs, script, tmp_path, capsys):
    script("report", f"results_dir={runs}", f"output={tmp_path}/page.html", f"published={PAPER}")
    assert capsys.readouterr().out.strip() == f"{tmp_path}/page.html"
    assert "digits_preactresnet18_narrow" in (tmp_path / "page.html").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"error: .*file cannot be made .*: give another output="):
        script("report", f"results_dir={runs}", f"output={tmp_path}/file/page.html")


def test_a_row_has_one_colour_in_all_figures(runs):
    for seed in (0, 1):
        for name in ("metrics.json", "log.jsonl"):
            (run_of(runs, "puzzlemix", seed) / name).unlink()
    rows = {row.label: row for row in rows_of(find_runs(runs).runs)}
    (curve,) = figures.curves_of(rows, "top1_error")  # of the second row
    lines = {label: {} for label in rows} | {curve.label: {0.0: [5.0], 8.0: [50.0]}}
    shown = (
        figures.draw_lines(lines, "eps", "error"),
        figures.draw_dots({"FGSM": {curve.label: [50.0]}}, rows),
        figures.draw_lines({label: {} for label in rows} | {curve.label: {50.0: [40.0]}}, "x", "y", with_diagonal=True),
    )
    assert curve.label.endswith("vanilla")
    assert curve.colour in figures.draw_curves([curve], "error")
    for drawn in shown:
        assert curve.colour in drawn
        assert figures.COLOURS[0] not in drawn
