//! German sentences for the demo's ads.

use super::{Phrases, Vocabulary, grouped};

pub(super) static GERMAN: Phrases = Phrases {
    words: Vocabulary {
        // With their articles, in the nominative: the sentences use no other case.
        bodies: [
            "der Kleinwagen",
            "die Limousine",
            "der Kombi",
            "der Geländewagen",
            "der Transporter",
            "das Cabrio",
            "das Coupé",
            "der Pick-up",
        ],
        // As nouns, all of them neuter.
        colours: [
            "Schwarz", "Weiß", "Silber", "Grau", "Blau", "Rot", "Grün", "Gelb", "Orange", "Braun", "Beige",
            "Türkis",
        ],
        fuels: ["Benzin", "Diesel", "Hybrid", "Plug-in-Hybrid", "Strom", "Biogas"],
        gearboxes: ["Schaltgetriebe", "Automatikgetriebe"],
        distance: |km| format!("{} km", grouped(km, '.')),
    },
    titles: &[
        "{make} {model} {year}",
        "{make} {model}, Baujahr {year}, in {colour}",
        "{make} {model} {year}, [gepflegt|fahrbereit|frisch gewartet]",
        "{make} {model} von {year}, {distance}",
        "[Schöner|Zuverlässiger|Ehrlicher|Gepflegter] {make} {model} von {year}",
        "{make} {model}, {power} kW, {gearbox}",
    ],
    opening: &[
        "Wir verkaufen unseren {make} {model} von {year}, der {distance} gelaufen ist.",
        "Zu verkaufen in {city}: ein {make} {model}, Baujahr {year}, [in gutem Zustand|gut gepflegt].",
        "Dieser {make} {model} von {year} [sucht ein neues Zuhause|wartet auf seinen nächsten Besitzer].",
        "Nach [vier schönen Jahren|vielen frohen Reisen|zwei Wintern und einem langen Sommer] trennen wir uns von unserem {make} {model}.",
        "Wer ein [zuverlässiges|bequemes|geräumiges] Auto sucht, sollte sich diesen {make} {model} ansehen.",
        "Ein {make} {model} muss kaum vorgestellt werden, und dieser von {year} ist [einer der besseren|besonders schön].",
    ],
    history: &[
        "Der Wagen kommt aus [erster|zweiter|dritter] Hand, und alle Papiere sind vorhanden.",
        "Er hat sein Leben [an der Küste|auf dem Land|in der Gegend von {city}] verbracht und nachts in der Garage gestanden.",
        "Alle {distance} lassen sich im Serviceheft nachlesen.",
        "Er war [der Stolz eines Großvaters|vom ersten Tag an das Auto der Familie|auf ruhigen Straßen für den Weg zur Arbeit unterwegs].",
        "Wir haben ihn [von einem Nachbarn|vom ersten Besitzer|nach dem Ende des Leasings] gekauft und es nie bereut.",
    ],
    looks: &[
        "Die Farbe ist ein [tiefes|warmes|klassisches] {colour}, das [noch immer glänzt|nichts von seiner Kraft verloren hat].",
        "In {colour} wirkt {body} [jünger, als man denkt|ruhig und elegant|am schönsten im Abendlicht].",
        "Es gibt [ein paar Steinschläge auf der Haube|zwei kleine Kratzer an der Stoßstange|kaum eine Spur], wie man es nach {distance} erwartet.",
        "Zum Lack in {colour} passen die [hellen|dunklen|zweifarbigen] Polster.",
        "Die Felgen wurden [im Frühjahr aufgearbeitet|vor einem Jahr neu gekauft] und stehen dem Wagen gut.",
    ],
    condition: &[
        "Rost gibt es nicht, [weder an den Schwellern noch an den Radläufen|nicht einmal am Unterboden], und wir zeigen ihn gern auf der Hebebühne.",
        "Die letzte Hauptuntersuchung bestand er [ohne Mängel|auf Anhieb|mit einem einzigen Hinweis].",
        "Die Reifen haben noch [sechs|sieben|fünf] Millimeter Profil.",
        "Die Windschutzscheibe ist [neu|ohne Steinschlag], und alle Lampen leuchten, wie sie sollen.",
        "Die Bremsen wurden [rundum erneuert|vorn ersetzt|im Herbst geprüft] und greifen gleichmäßig.",
    ],
    drive: &[
        "Das {gearbox} [arbeitet weich|schaltet ohne Ruck|macht einfach Freude].",
        "Mit {power} kW [überholt er mühelos|nimmt er jeden Berg ohne Klagen|hat er mehr Kraft, als man braucht].",
        "Auf der Autobahn ist {body} [leise|ruhig wie ein Zug|erstaunlich bequem], und in der Stadt findet sich leicht ein Parkplatz.",
        "Die Lenkung ist [leicht|genau], und die Federung [schluckt schlechte Straßen|hält den Wagen in Kurven gerade].",
        "Auf kurvigen Straßen [lebt er auf|ist {body} zu Hause].",
    ],
    electric: &[
        "Die Batterie hat noch [einundneunzig|vierundneunzig|achtundachtzig] Prozent ihrer Kapazität.",
        "Eine Ladung reicht im [Sommer|Winter] für [zweihundertachtzig|dreihundertvierzig|dreihundertneunzig] Kilometer.",
        "Geladen wird über Nacht zu Hause, und das Kabel [ist dabei|liegt im Kofferraum].",
        "Schnellladen dauert [eine halbe Stunde|etwa vierzig Minuten], gerade genug für einen guten Kaffee.",
        "Er gleitet lautlos davon, und die laufenden Kosten sind [eine angenehme Überraschung|kaum der Rede wert].",
    ],
    hybrid: &[
        "Der Hybridantrieb ist in der Stadt sparsam und [wacht auf|singt], sobald die Straße frei ist.",
        "Kurze Wege fährt er elektrisch, auf langen hilft der Verbrenner.",
        "Beim Bremsen lädt sich die Batterie, deshalb [halten die Beläge lange|sehen die Beläge aus wie neu].",
        "Der Wechsel zwischen beiden Motoren ist [kaum zu spüren|weich wie Seide].",
    ],
    combustion: &[
        "Er fährt mit {fuel} und ist [sparsam|genügsam], auch auf langen Strecken.",
        "Der Motor springt [sofort|auch bei strengem Frost] an und läuft ruhig im Leerlauf.",
        "Das Öl wurde [jedes Jahr|im letzten Monat|alle zehntausend Kilometer] gewechselt, immer mit der richtigen Sorte.",
        "Zahnriemen und Wasserpumpe sind [neu|zwei Jahre alt], der Motor braucht also lange nichts.",
        "Der Auspuff ist [dicht und leise|ein Jahr alt], und nirgends tropft etwas.",
    ],
    interior: &[
        "Innen ist Platz für [große Fahrer|lange Beine], auf insgesamt {seats} Sitzen.",
        "Die Sitze sind [beheizt|fest wie am ersten Tag|mit weicher Wolle bezogen], und niemand hat im Auto geraucht.",
        "Die Klimaanlage [kühlt schnell|wurde im Mai befüllt], und die Heizung ist im Winter ein Segen.",
        "In den Kofferraum passen [Kinderwagen und Einkäufe|zwei Fahrräder, wenn die Sitze umgelegt sind|Koffer für zwei Wochen].",
        "Die Instrumente sind gut zu lesen, und jeder Schalter [liegt, wo die Hand ihn sucht|funktioniert].",
    ],
    equipment: &[
        "Dazu gehören [eine Anhängerkupplung|Winterreifen auf eigenen Felgen|Gummimatten] und [zwei Schlüssel|alle Handbücher|eine Rückfahrkamera].",
        "Er hat Tempomat, [Parksensoren|einen Regensensor|adaptive Scheinwerfer] und [eine gute Musikanlage|ein Navigationsgerät].",
        "Das sanfte Licht in den Türen ist an dunklen Abenden eine [Freude|Wohltat].",
        "Auf Wunsch gibt es [ein Hundegitter|einen Kindersitz|eine Kühlbox] dazu.",
        "Das Telefon verbindet sich [von selbst|in Sekunden], und die Lautsprecher sind besser als unsere zu Hause.",
    ],
    journeys: &[
        "Er hat uns [über die Alpen|ans Meer|rund um den Bodensee] und zurück gebracht, ohne zu murren.",
        "Er passt zu [einer jungen Familie|Pendlern|allen, die gerade den Führerschein gemacht haben|zwei Wanderern].",
        "Im Sommer [zog er einen kleinen Wohnwagen|schliefen wir darin an einem See|fuhren wir damit zu einer Hochzeit], und er ließ uns nie im Stich.",
        "Für [Ausflüge am Wochenende|den täglichen Weg zur Schule|lange Dienstreisen] gibt es kaum ein besseres Auto.",
        "Auch der Hund liebt ihn, musste aber natürlich auf seiner Decke bleiben.",
    ],
    service: &[
        "Die letzte Inspektion war [im März|im September|vor fünfhundert Kilometern], und die Rechnungen liegen im Handschuhfach.",
        "Eine Werkstatt in {city} kümmert sich [seit dem ersten Tag|seit sechs Jahren] um ihn.",
        "Jede Reparatur wurde [rechtzeitig|mit Originalteilen] gemacht, nie erst, als es zu spät war.",
        "Die nächste Inspektion ist in [zehntausend|fünfzehntausend] Kilometern fällig.",
        "In diesem Jahr wurden eine neue Starterbatterie und [neue Wischerblätter|neue Filter] eingebaut.",
    ],
    flaw: &[
        "Ehrlich gesagt [klappt der linke Spiegel etwas langsam ein|hat das Radio seinen eigenen Willen|quietscht das Handschuhfach auf Kopfsteinpflaster].",
        "Ein [Türgriff|Fensterheber] zeigt sein Alter, was der Preis berücksichtigt.",
        "Nie benutzt haben wir nur [den Aschenbecher|die Sitzheizung hinten|den Becherhalter, der aus dem Armaturenbrett klappt].",
        "Eine kleine Delle in der [Heckklappe|linken Tür] erzählt von der Begegnung mit einem Einkaufswagen.",
    ],
    closing_private: &[
        "Rufen Sie [abends|nach sechs Uhr|am Wochenende] an und kommen Sie zur Probefahrt nach {city}.",
        "Wir haben keine Eile, machen Sie uns also ein [faires|vernünftiges] Angebot.",
        "Fragen sind willkommen, [Tauschangebote nicht|und Sie sind es auch].",
        "Zu sehen ist er in {city}, [fast jeden Abend|samstags und sonntags].",
        "Wir würden uns freuen, ihn in [guten|liebevollen] Händen zu wissen.",
    ],
    closing_dealer: &[
        "Besuchen Sie uns in {city}, der Kaffee [geht aufs Haus|ist immer frisch].",
        "Wir bieten [zwölf Monate Garantie|eine Finanzierung zu fairen Zinsen|die Lieferung bis vor Ihre Haustür].",
        "Ihren jetzigen Wagen nehmen wir gern in Zahlung.",
        "Vor der Übergabe geht der Wagen durch [unsere Werkstatt|unsere Prüfung in hundert Punkten].",
        "Vereinbaren Sie noch heute eine Probefahrt und [fahren Sie morgen damit nach Hause|nehmen Sie sich alle Zeit].",
    ],
    trade_only: &[
        "Nur für Händler: verkauft wie besichtigt, ohne Gewährleistung.",
        "Dem Handel angeboten, bevor er zur Auktion geht; der Preis ist netto.",
    ],
    held_back: &[
        "Zurückgehalten: Die Papiere werden noch geprüft.",
        "Zurückgehalten: Die Bilder müssen neu aufgenommen werden, bevor die Anzeige erscheint.",
    ],
};
