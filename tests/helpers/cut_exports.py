"""One page of two lines as Transkribus, eScriptorium and kraken export it: the same place, each in its own form.

The forms are those of Transkribus (PAGE 2013-07-15, ALTO 2), of eScriptorium (PAGE 2019, ALTO 4.2; its points are
written with ``%g``) and of the templates of kraken 7.1 (PAGE 2019 and ALTO 4.3, with and without words).
"""

from __future__ import annotations

PRIMA = "http://schema.primaresearch.org/PAGE/gts/pagecontent"
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'

TRANSKRIBUS_PAGE = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<PcGts xmlns="{PRIMA}/2013-07-15" {XSI} xsi:schemaLocation="{PRIMA}/2013-07-15 {PRIMA}/2013-07-15/pagecontent.xsd">
    <Metadata>
        <Creator>prov=READ-COOP:name=PyLaia:version=2.11
Transkribus</Creator>
        <Created>2026-01-13T11:47:58.199+01:00</Created>
        <TranskribusMetadata docId="1" pageId="2" pageNr="1" status="GT" imgUrl="https://localhost/Get?id=A&amp;b=c"/>
    </Metadata>
    <Page imageFilename="0001_p001.jpg" imageWidth="400" imageHeight="200" type="content">
        <ReadingOrder>
            <OrderedGroup id="ro_1" caption="Regions reading order">
                <RegionRefIndexed index="0" regionRef="r1"/>
            </OrderedGroup>
        </ReadingOrder>
        <PrintSpace><Coords points="0,0 0,200 400,200 400,0"/></PrintSpace>
        <TextRegion type="paragraph" orientation="0.0" id="r1" custom="readingOrder {{index:0;}} structure {{type:p;}}">
            <Coords points="10,10 10,190 390,190 390,10"/>
            <TextLine id="r1l1" custom="readingOrder {{index:0;}} unclear {{offset:0; length:2;}}">
                <Coords points="20,20 380,20 380,60 20,60"/>
                <Baseline points="20,50 380,50"/>
                <Word id="w1" custom="readingOrder {{index:0;}}">
                    <Coords points="20,20 60,20 60,60 20,60"/>
                    <TextEquiv><Unicode>Am</Unicode></TextEquiv>
                </Word>
                <TextEquiv><Unicode>Am Köln &amp; Rhein¬</Unicode></TextEquiv>
            </TextLine>
            <TextLine id="line_1768301278199_261" custom="readingOrder {{index:1;}} person {{offset:0; length:4;}}">
                <Coords points="20,100 380,100 380,140 20,140"/>
                <Baseline points="20,130 380,130"/>
                <TextEquiv><Unicode>zwei</Unicode></TextEquiv>
                <TextStyle fontFamily="Arial" fontSize="9.0"/>
            </TextLine>
            <TextEquiv><Unicode>Am Köln &amp; Rhein¬&#13;
zwei</Unicode></TextEquiv>
        </TextRegion>
    </Page>
</PcGts>
"""

# Its unit is a tenth of a millimetre by name and a pixel in truth, and it names no image.
TRANSKRIBUS_ALTO = f"""<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="http://www.loc.gov/standards/alto/ns-v2#" xmlns:page="{PRIMA}/2013-07-15" {XSI}>
   <Description>
      <MeasurementUnit>mm10</MeasurementUnit>
      <OCRProcessing ID="IdOcr"><ocrProcessingStep><processingSoftware><softwareName>Transkribus</softwareName>
      </processingSoftware></ocrProcessingStep></OCRProcessing>
   </Description>
   <Layout>
      <Page ID="Page1" PHYSICAL_IMG_NR="1" HEIGHT="200" WIDTH="400">
         <TopMargin HEIGHT="10" WIDTH="400" VPOS="0" HPOS="0"/>
         <PrintSpace HEIGHT="180" WIDTH="380" VPOS="10" HPOS="10">
            <TextBlock ID="r1" HEIGHT="180" WIDTH="380" VPOS="10" HPOS="10">
               <TextLine ID="r1l1" BASELINE="50" HEIGHT="40" WIDTH="360" VPOS="20" HPOS="20">
                  <String HEIGHT="40" WIDTH="40" VPOS="20" HPOS="20" CONTENT="Am"/>
                  <SP HEIGHT="40" WIDTH="20" VPOS="20" HPOS="60"/>
                  <String HEIGHT="40" WIDTH="80" VPOS="20" HPOS="80" CONTENT="Köln"/>
                  <SP HEIGHT="40" WIDTH="20" VPOS="20" HPOS="160"/>
                  <String HEIGHT="40" WIDTH="20" VPOS="20" HPOS="180" CONTENT="&amp;"/>
                  <SP HEIGHT="40" WIDTH="20" VPOS="20" HPOS="200"/>
                  <String HEIGHT="40" WIDTH="120" VPOS="20" HPOS="220" CONTENT="Rhein¬"/>
               </TextLine>
               <TextLine ID="r1l2" BASELINE="130" HEIGHT="40" WIDTH="360" VPOS="100" HPOS="20">
                  <String HEIGHT="40" WIDTH="80" VPOS="100" HPOS="20" CONTENT="zwei"/>
               </TextLine>
            </TextBlock>
         </PrintSpace>
      </Page>
   </Layout>
</alto>
"""

ESCRIPTORIUM_PAGE = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<PcGts xmlns="{PRIMA}/2019-07-15" {XSI} xsi:schemaLocation="{PRIMA}/2019-07-15 {PRIMA}/2019-07-15/pagecontent.xsd">
  <Metadata><Creator>escriptorium</Creator><Created>2026-01-13T10:00:00+00:00</Created></Metadata>
  <Page imageFilename="0001_p001.jpg" imageWidth="400" imageHeight="200">
      <TextRegion id="eSc_textblock_1" custom="structure {{type:MainZone;}}">
        <Coords points="10,10 10,190 390,190 390,10"/>
        <TextLine id="eSc_line_1" custom="structure {{type:DefaultLine;}}">
          <Coords points="20,20 380,20 380,60 20,60"/>
          <Baseline points="20,50 380,50"/>
          <TextEquiv conf="0.9731"><Unicode>Am Köln &amp; Rhein¬</Unicode></TextEquiv>
        </TextLine>
        <TextLine id="eSc_line_2" >
          <Coords points="20,100 380,100 380,140 20,140"/>
          <Baseline points="20,130 380,130"/>
          <TextEquiv><Unicode>zwei</Unicode></TextEquiv>
        </TextLine>
      </TextRegion>
      <TextRegion id="eSc_dummyblock_">
        <TextLine id="eSc_line_3">
          <Baseline points="20,180 380,180"/>
          <TextEquiv><Unicode></Unicode></TextEquiv>
        </TextLine>
      </TextRegion>
  </Page>
</PcGts>
"""

ALTO_4 = f"""<?xml version="1.0" encoding="UTF-8"?>
<alto {XSI} xmlns="http://www.loc.gov/standards/alto/ns-v4#">
  <Description>
    <MeasurementUnit>pixel</MeasurementUnit>
    <sourceImageInformation><fileName>NAME</fileName>
      <fileIdentifier>https://localhost/iiif/1/full/full/0/default.jpg</fileIdentifier></sourceImageInformation>
  </Description>
  <Tags><OtherTag ID="BT1" LABEL="MainZone" DESCRIPTION="block type MainZone"/></Tags>
  <ReadingOrder><OrderedGroup ID="ro_0"><ElementRef ID="o_1" REF="line_2"/><ElementRef ID="o_2" REF="line_1"/>
  </OrderedGroup></ReadingOrder>
  <Layout>
    <Page WIDTH="400" HEIGHT="200" PHYSICAL_IMG_NR="0" ID="page_0">
      <PrintSpace HPOS="0" VPOS="0" WIDTH="400" HEIGHT="200">
        <TextBlock ID="b1" HPOS="10" VPOS="10" WIDTH="380" HEIGHT="180" TAGREFS="BT1">
          <Shape><Polygon POINTS="10 10 10 190 390 190 390 10"/></Shape>
          LINES
        </TextBlock>
      </PrintSpace>
    </Page>
  </Layout>
</alto>
"""
ESCRIPTORIUM_LINES = """
          <TextLine ID="line_1" TAGREFS="LT1" BASELINE="20 50 380 50" HPOS="20" VPOS="20" WIDTH="360" HEIGHT="40">
            <Shape><Polygon POINTS="20 20 380 20 380 60 20 60"/></Shape>
            <String CONTENT="Am Köln &amp; Rhein¬" HPOS="20" VPOS="20" WIDTH="360" HEIGHT="40" WC="0.97"></String>
          </TextLine>
          <TextLine ID="line_2" BASELINE="20 130 380 130" HPOS="20" VPOS="100" WIDTH="360" HEIGHT="40">
            <Shape><Polygon POINTS="20 100 380 100 380 140 20 140"/></Shape>
            <String CONTENT="zwei" HPOS="20" VPOS="100" WIDTH="360" HEIGHT="40"></String>
          </TextLine>"""
KRAKEN_LINES = """
          <TextLine ID="line_1" HPOS="20" VPOS="20" WIDTH="360" HEIGHT="40" BASELINE="20 50 380 50" TAGREFS="TYPE_1">
            <Shape><Polygon POINTS="20 20 380 20 380 60 20 60"/></Shape>
            <String ID="segment_0" CONTENT="Am" HPOS="20" VPOS="20" WIDTH="40" HEIGHT="40" WC="0.98">
              <Shape><Polygon POINTS="20 20 60 20 60 60 20 60"/></Shape>
              <Glyph ID="char_0" CONTENT="A" HPOS="20" VPOS="20" WIDTH="20" HEIGHT="40" GC="0.98">
                <Shape><Polygon POINTS="20 20 40 20 40 60 20 60"/></Shape>
              </Glyph>
            </String>
            <SP ID="segment_1" HPOS="60" VPOS="20" WIDTH="10" HEIGHT="40"/>
            <String ID="segment_2" CONTENT="Köln" HPOS="70" VPOS="20" WIDTH="80" HEIGHT="40" WC="0.9"/>
            <SP ID="segment_3" HPOS="150" VPOS="20" WIDTH="10" HEIGHT="40"/>
            <String ID="segment_4" CONTENT="&amp;" HPOS="160" VPOS="20" WIDTH="20" HEIGHT="40" WC="0.9"/>
            <SP ID="segment_5" HPOS="180" VPOS="20" WIDTH="10" HEIGHT="40"/>
            <String ID="segment_6" CONTENT="Rhein¬" HPOS="190" VPOS="20" WIDTH="100" HEIGHT="40" WC="0.9"/>
          </TextLine>
          <TextLine ID="line_2" HPOS="20" VPOS="100" WIDTH="360" HEIGHT="40" BASELINE="20 130 380 130"
                    BASEDIRECTION="rtl">
            <Shape><Polygon POINTS="20 100 380 100 380 140 20 140"/></Shape>
            <String ID="segment_7" CONTENT=" " HPOS="20" VPOS="100" WIDTH="10" HEIGHT="40" WC="0.9"/>
            <String ID="segment_8" CONTENT="zwei" HPOS="30" VPOS="100" WIDTH="80" HEIGHT="40" WC="0.9"/>
          </TextLine>"""
ESCRIPTORIUM_ALTO = ALTO_4.replace("NAME", "0001_p001.jpg").replace("LINES", ESCRIPTORIUM_LINES)
KRAKEN_ALTO = ALTO_4.replace("NAME", "/home/user/scans/0001_p001.jpg").replace("LINES", KRAKEN_LINES)
KRAKEN_PAGE = ESCRIPTORIUM_PAGE.replace("escriptorium", "kraken 7.1.1").replace(
    "<TextEquiv><Unicode>zwei",
    '<Word id="segment_9"><Coords points="20,100 110,100 110,140 20,140"/><Glyph id="char_9">'
    '<Coords points="20,100 40,100 40,140 20,140"/><TextEquiv conf="0.9"><Unicode>z</Unicode></TextEquiv></Glyph>'
    '<TextEquiv conf="0.9"><Unicode>zwei</Unicode></TextEquiv></Word><TextEquiv conf="0.9"><Unicode>zwei',
)
# Both ways of writing points that ALTO 4 allows, and the lists that older releases of kraken wrote.
COMMAS = ESCRIPTORIUM_ALTO.replace("20 50 380 50", "20,50 380,50").replace(
    "20 20 380 20 380 60 20 60", "20,20 380,20 380,60 20,60"
)
LISTS = ESCRIPTORIUM_ALTO.replace("20 50 380 50", "[[20, 50], [380, 50]]")

EXPORTS = {
    "Transkribus PAGE": TRANSKRIBUS_PAGE,
    "Transkribus ALTO": TRANSKRIBUS_ALTO,
    "eScriptorium PAGE": ESCRIPTORIUM_PAGE,
    "eScriptorium ALTO": ESCRIPTORIUM_ALTO,
    "kraken PAGE": KRAKEN_PAGE,
    "kraken ALTO": KRAKEN_ALTO,
    "ALTO with commas": COMMAS,
    "ALTO with lists": LISTS,
}
